# frozen_string_literal: true

RSpec.describe Kino::Input do
  def input(bytes = "one\ntwo\n\nlast") = described_class.new(bytes.b)

  it "reads all that is left" do
    body = input
    expect([body.read, body.read, body.read(nil)]).to eq ["one\ntwo\n\nlast", "", ""]
    expect(body.read(1)).to be_nil
  end

  it "reads so many bytes" do
    body = input
    expect([body.read(0), body.read(3), body.read(100), body.read(1), body.read(0)])
      .to eq ["", "one", "\ntwo\n\nlast", nil, ""]
  end

  it "reads into a buffer" do
    body = input
    buffer = +"old"
    expect(body.read(3, buffer)).to be buffer
    expect(buffer).to eq "one"
    body.read
    expect(body.read(3, buffer)).to be_nil
    expect(buffer).to eq ""
    expect(body.read(nil, buffer)).to be buffer
  end

  it "reads lines" do
    body = input
    first = body.gets
    rest = []
    expect(body.each { rest << _1 }).to be body
    expect([first, rest, body.gets]).to eq ["one\n", ["two\n", "\n", "last"], nil]
  end

  it "gives bytes" do
    expect(input("\xC3\xBC").read.encoding).to eq Encoding::BINARY
    expect(input("\xC3\xBC").gets).to eq "\xC3\xBC".b
  end

  it "refuses a negative length" do
    expect { input.read(-1) }.to raise_error ArgumentError
  end

  it "is empty once it is closed" do
    body = input
    body.close
    expect([body.read, body.read(1), body.gets]).to eq ["", nil, nil]
  end

  it "has an empty one, for all requests without a body" do
    empty = described_class::EMPTY
    buffer = +"old"
    expect([empty.read, empty.read(5), empty.read(0), empty.gets, empty.close])
      .to eq ["", nil, "", nil, nil]
    expect { |block| empty.each(&block) }.not_to yield_control
    expect(empty.read(5, buffer)).to be_nil
    expect(buffer).to eq ""
    expect(empty.read).not_to be_frozen
    expect(Ractor.shareable?(empty)).to be true
  end
end
